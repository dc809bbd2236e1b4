-- Software projects, the developers who work on them, and the issues reported against them.
CREATE TABLE developers (
    dev_id INTEGER PRIMARY KEY,
    login TEXT,
    full_name TEXT,
    role TEXT,
    country TEXT
);
CREATE TABLE projects (
    proj_id INTEGER PRIMARY KEY,
    proj_name TEXT,
    language TEXT,
    stars INTEGER,
    lead_id INTEGER,
    FOREIGN KEY (lead_id) REFERENCES developers (dev_id)
);
CREATE TABLE issues (
    issue_id INTEGER PRIMARY KEY,
    proj_id INTEGER,
    dev_id INTEGER,
    title TEXT,
    priority TEXT,
    status TEXT,
    hours REAL,
    FOREIGN KEY (proj_id) REFERENCES projects (proj_id),
    FOREIGN KEY (dev_id) REFERENCES developers (dev_id)
);

INSERT INTO developers VALUES
    (1, 'mkaur', 'Manpreet Kaur', 'backend', 'India'),
    (2, 'jfoster', 'Jill Foster', 'frontend', 'Canada'),
    (3, 'pzhou', 'Ping Zhou', 'backend', 'China'),
    (4, 'aolsen', 'Astrid Olsen', 'designer', 'Norway'),
    (5, 'rdiaz', 'Raul Diaz', 'tester', 'Mexico'),
    (6, 'kwatts', 'Kevin Watts', 'frontend', 'Canada'),
    (7, 'smehta', 'Sunil Mehta', 'backend', 'India'),
    (8, 'eblum', 'Erika Blum', 'tester', 'Germany'),
    (9, 'tnguyen', 'Tam Nguyen', 'operations', 'Vietnam');
INSERT INTO projects VALUES
    (1, 'parcel', 'Python', 1240, 1),
    (2, 'lighthouse-ui', 'TypeScript', 860, 2),
    (3, 'mintdb', 'Rust', 5310, 3),
    (4, 'quickform', 'TypeScript', 215, 6),
    (5, 'logpipe', 'Go', 1975, 7),
    (6, 'weathervane', 'Python', 98, 1),
    (7, 'tinycache', 'Rust', 640, 3),
    (8, 'docsmith', 'Python', 2410, 4);
INSERT INTO issues VALUES
    (1, 1, 1, 'crash on empty address', 'high', 'open', 6.5),
    (2, 1, 5, 'missing test for refunds', 'low', 'closed', 2.0),
    (3, 2, 2, 'button overlaps footer', 'medium', 'closed', 1.5),
    (4, 2, 4, 'dark mode colours', 'low', 'open', 4.0),
    (5, 3, 3, 'slow join on large tables', 'high', 'open', 21.0),
    (6, 3, 7, 'crash when disk is full', 'high', 'closed', 13.5),
    (7, 3, 8, 'wrong error code', 'medium', 'closed', 3.0),
    (8, 4, 6, 'form loses focus', 'medium', 'open', 2.5),
    (9, 5, 7, 'memory leak in parser', 'high', 'closed', 17.0),
    (10, 5, 3, 'support gzip input', 'low', 'open', 8.0),
    (11, 6, 1, 'time zone off by one', 'medium', 'closed', 5.0),
    (12, 7, 3, 'slow start', 'medium', 'open', 7.5),
    (13, 8, 4, 'table style in export', 'low', 'closed', 3.5),
    (14, 8, 2, 'search box is too small', 'low', 'open', 1.0),
    (15, 1, 7, 'retry after timeout', 'medium', 'open', 9.0),
    (16, 3, 5, 'flaky replication test', 'high', 'open', 11.0),
    (17, 8, 1, 'slow build of large books', 'medium', 'closed', 10.0);
