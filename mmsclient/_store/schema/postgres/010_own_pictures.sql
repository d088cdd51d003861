ALTER TABLE message ADD COLUMN picture text NOT NULL DEFAULT ''; -- SHA-256 of one of their own; '' for the campaign's
ALTER TABLE recipient ADD COLUMN fields text; -- of what its picture is made, as JSON; NULL where all get the same one
