-- The tables of a service that shares no database: its relay, its streams and the events that it received.

CREATE TABLE bus_received (
    sequence BIGINT NOT NULL,
    origin TEXT COLLATE "C" NOT NULL,
    origin_position BIGINT NOT NULL,
    PRIMARY KEY (sequence),
    CONSTRAINT once_received UNIQUE (origin, origin_position)
);

CREATE TABLE bus_streams (
    origin TEXT COLLATE "C" NOT NULL,
    log_id TEXT COLLATE "C" NOT NULL,
    last BIGINT NOT NULL,
    last_id TEXT COLLATE "C" NOT NULL,
    watermark BIGINT NOT NULL,
    includes TEXT COLLATE "C" NOT NULL,
    includes_watermark BIGINT NOT NULL,
    gap_since TEXT COLLATE "C",
    mangled_count BIGINT NOT NULL,
    other_log_count BIGINT NOT NULL,
    history_change TEXT COLLATE "C",
    next_offset BIGINT NOT NULL,
    PRIMARY KEY (origin),
    CONSTRAINT first_has_no_id CHECK ((last = 0) = (last_id = ''))
);

CREATE TABLE bus_relay (
    id BIGINT NOT NULL,
    service TEXT COLLATE "C" NOT NULL,
    log_id TEXT COLLATE "C" NOT NULL,
    position BIGINT NOT NULL,
    claimed BIGINT NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT one_row CHECK (id = 1)
);
