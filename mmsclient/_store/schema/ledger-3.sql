-- `kind`: of the message, mms or sms, where a report or a reply tells it; NULL where none does
ALTER TABLE heard ADD COLUMN kind TEXT;
PRAGMA user_version = 3;
