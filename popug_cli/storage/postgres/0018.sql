-- What a service needs to verify tokens by itself: a deny list, and how new its copies are.

ALTER TABLE bus_streams ADD COLUMN stamped_at TEXT COLLATE "C";

CREATE TABLE identity_revoked_tokens (
    token_id TEXT COLLATE "C" NOT NULL,
    expires_at TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (token_id)
);

CREATE INDEX identity_revoked_tokens_expiry ON identity_revoked_tokens (expires_at);

CREATE TABLE identity_token_owners (
    user_id TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    void_below BIGINT NOT NULL,
    expires_at TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (user_id, kind),
    CONSTRAINT known_kind CHECK (kind IN ('session', 'machine')),
    CONSTRAINT a_position CHECK (void_below >= 0)
);

CREATE INDEX identity_token_owners_expiry ON identity_token_owners (expires_at);

CREATE TABLE identity_watermark (
    id BIGINT NOT NULL,
    position BIGINT NOT NULL,
    stamped_at TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT one_row CHECK (id = 1)
);
