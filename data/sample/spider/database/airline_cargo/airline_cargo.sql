-- A cargo airline: airports it serves, its planes, and the shipments they carry.
CREATE TABLE airports (
    code TEXT PRIMARY KEY,
    city TEXT,
    country TEXT,
    elevation_m INTEGER
);
CREATE TABLE planes (
    tail_no TEXT PRIMARY KEY,
    model TEXT,
    capacity_kg INTEGER,
    built INTEGER
);
CREATE TABLE shipments (
    ship_id INTEGER PRIMARY KEY,
    origin TEXT,
    dest TEXT,
    tail_no TEXT,
    goods TEXT,
    weight_kg INTEGER,
    FOREIGN KEY (origin) REFERENCES airports (code),
    FOREIGN KEY (dest) REFERENCES airports (code),
    FOREIGN KEY (tail_no) REFERENCES planes (tail_no)
);

INSERT INTO airports VALUES
    ('LGG', 'Liege', 'Belgium', 201),
    ('CGN', 'Cologne', 'Germany', 92),
    ('LEJ', 'Leipzig', 'Germany', 142),
    ('ADD', 'Addis Ababa', 'Ethiopia', 2334),
    ('BOG', 'Bogota', 'Colombia', 2548),
    ('ANC', 'Anchorage', 'United States', 46),
    ('SDF', 'Louisville', 'United States', 153),
    ('MEM', 'Memphis', 'United States', 104),
    ('NBO', 'Nairobi', 'Kenya', 1624),
    ('HKG', 'Hong Kong', 'China', 9);
INSERT INTO planes VALUES
    ('CX-101', 'B747F', 112000, 2004),
    ('CX-102', 'B747F', 112000, 2009),
    ('CX-210', 'B777F', 102000, 2015),
    ('CX-211', 'B777F', 102000, 2018),
    ('CX-305', 'A330F', 65000, 2013),
    ('CX-306', 'A330F', 65000, 2020),
    ('CX-412', 'B757F', 39000, 1998),
    ('CX-520', 'ATR72F', 8500, 2021);
INSERT INTO shipments VALUES
    (1, 'LGG', 'ANC', 'CX-101', 'machine parts', 18200),
    (2, 'NBO', 'LGG', 'CX-210', 'roses', 24500),
    (3, 'ADD', 'LGG', 'CX-210', 'coffee', 15800),
    (4, 'HKG', 'ANC', 'CX-102', 'phones', 41300),
    (5, 'ANC', 'SDF', 'CX-102', 'phones', 38900),
    (6, 'BOG', 'MEM', 'CX-305', 'roses', 21000),
    (7, 'LEJ', 'HKG', 'CX-211', 'car parts', 36750),
    (8, 'CGN', 'LEJ', 'CX-520', 'letters', 3100),
    (9, 'HKG', 'LEJ', 'CX-211', 'laptops', 52400),
    (10, 'NBO', 'CGN', 'CX-306', 'beans', 12600),
    (11, 'MEM', 'SDF', 'CX-412', 'letters', 6400),
    (12, 'SDF', 'CGN', 'CX-305', 'medicine', 9800),
    (13, 'LGG', 'NBO', 'CX-306', 'medicine', 7200),
    (14, 'HKG', 'LGG', 'CX-101', 'phones', 60500),
    (15, 'BOG', 'ANC', 'CX-102', 'coffee', 19900),
    (16, 'LGG', 'CGN', 'CX-520', 'letters', 2800);
