-- `picture`: the SHA-256 of a picture of their own, in hexadecimal; '' where all get the campaign's
ALTER TABLE message ADD COLUMN picture TEXT NOT NULL DEFAULT '';
-- `fields`: of what the recipient's picture is made, as JSON; NULL where all get the same one
ALTER TABLE recipient ADD COLUMN fields TEXT;
PRAGMA user_version = 5;
