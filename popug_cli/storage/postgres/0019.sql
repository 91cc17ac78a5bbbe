-- The state of a cluster: whether a database is being filled or serves; and pauses for a backup.

CREATE TABLE storage_cluster_state (
    id BIGINT NOT NULL,
    cluster_id TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    gateway TEXT COLLATE "C" NOT NULL,
    changed_at TEXT COLLATE "C" NOT NULL,
    timeline BIGINT NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT one_row CHECK (id = 1),
    CONSTRAINT known_state CHECK (state IN ('loading', 'restoring', 'active', 'moved'))
);

CREATE TABLE storage_cluster_pause (
    id BIGINT NOT NULL,
    pause_id TEXT COLLATE "C" NOT NULL,
    ends_at TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT one_row CHECK (id = 1)
);
