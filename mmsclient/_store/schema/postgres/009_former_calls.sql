CREATE TABLE former_call ( -- calls that may have been carried out, of recipients that were to be sent to again
    campaign bigint NOT NULL REFERENCES campaign ON DELETE CASCADE,
    recipient bigint NOT NULL,
    batch bigint NOT NULL,
    PRIMARY KEY (campaign, recipient, batch)
);
INSERT INTO former_call SELECT campaign, id, batch FROM recipient
WHERE state = 'pending' AND reason = 'it is sent again, though it may have been sent before' AND batch IS NOT NULL;
