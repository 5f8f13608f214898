-- The names of a kind by their expiry, without a look at the bodies: `body` comes before `expires_at` in a row, so that each
-- look at the expiry read a large body to its end.
CREATE INDEX documents_by_expiry ON documents (kind, expires_at, name);
