-- Add to a service's relay its database and how far it has read its own topic back; create its subscriptions.

ALTER TABLE bus_relay ADD COLUMN database_id TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE bus_relay ADD COLUMN reached BIGINT NOT NULL DEFAULT 0;
ALTER TABLE bus_relay ADD COLUMN own_offset BIGINT NOT NULL DEFAULT 0;
ALTER TABLE bus_relay ADD COLUMN stranger TEXT COLLATE "C";

CREATE TABLE bus_subscriptions (
    origin TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (origin, name)
);

UPDATE bus_relay SET reached = position;
