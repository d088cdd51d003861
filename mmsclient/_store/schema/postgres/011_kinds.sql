ALTER TABLE campaign ADD COLUMN kind text NOT NULL DEFAULT 'mms' CHECK (kind IN ('mms', 'sms'));
ALTER TABLE campaign ADD COLUMN sms text NOT NULL DEFAULT ''; -- of an SMS: its sender, source and custom string, as JSON
ALTER TABLE evidence ADD COLUMN kind text; -- of the message, mms or sms, where a report or a reply tells it; NULL where none does
