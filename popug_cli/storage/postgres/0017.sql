-- The tables of ended days: tasks has ended every day that billing has closed.

CREATE TABLE tasks_company (
    id BIGINT NOT NULL,
    first_day TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT one_row CHECK (id = 1)
);

CREATE TABLE tasks_ended_days (
    business_date TEXT COLLATE "C" NOT NULL,
    event_id TEXT COLLATE "C",
    ended_at TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (business_date),
    UNIQUE (event_id)
);

CREATE TABLE billing_ended_days (
    business_date TEXT COLLATE "C" NOT NULL,
    recorded_at TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (business_date)
);

INSERT INTO tasks_company (id, first_day) SELECT id, first_day FROM billing_company;

INSERT INTO tasks_ended_days (business_date, ended_at) SELECT business_date, closed_at FROM billing_days
    ORDER BY business_date DESC LIMIT 1;
