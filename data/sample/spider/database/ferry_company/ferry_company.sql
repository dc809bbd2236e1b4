CREATE TABLE ports (
    port_id INTEGER PRIMARY KEY,
    port_name TEXT,
    island TEXT,
    berths INTEGER
);
CREATE TABLE ferries (
    ferry_id INTEGER PRIMARY KEY,
    ferry_name TEXT,
    built_year INTEGER,
    passenger_capacity INTEGER,
    car_capacity INTEGER
);
CREATE TABLE routes (
    route_id INTEGER PRIMARY KEY,
    origin_port_id INTEGER,
    destination_port_id INTEGER,
    distance_km REAL,
    duration_minutes INTEGER,
    FOREIGN KEY (origin_port_id) REFERENCES ports (port_id),
    FOREIGN KEY (destination_port_id) REFERENCES ports (port_id)
);
CREATE TABLE sailings (
    sailing_id INTEGER PRIMARY KEY,
    route_id INTEGER,
    ferry_id INTEGER,
    sail_date TEXT,
    passengers INTEGER,
    status TEXT,
    FOREIGN KEY (route_id) REFERENCES routes (route_id),
    FOREIGN KEY (ferry_id) REFERENCES ferries (ferry_id)
);

INSERT INTO ports VALUES
    (1, 'Port Aldwyn', 'Mainland', 6),
    (2, 'Skerrow', 'Norrey', 2),
    (3, 'Tarn Quay', 'Norrey', 1),
    (4, 'Saint Brannock', 'Great Ullin', 3),
    (5, 'Kelpie Harbour', 'Great Ullin', 2),
    (6, 'Little Ullin Pier', 'Little Ullin', 1),
    (7, 'Ravensmouth', 'Mainland', 4),
    (8, 'Foula Landing', 'Foula', 1);

INSERT INTO ferries VALUES
    (1, 'Sea Lark', 1989, 180, 24),
    (2, 'Northern Star', 2006, 520, 110),
    (3, 'Lady Morwenna', 1997, 310, 60),
    (4, 'Petrel', 2015, 95, 0),
    (5, 'Grey Seal', 2011, 400, 85),
    (6, 'Island Courier', 1984, 140, 18),
    (7, 'Aurora', 2020, 640, 150),
    (8, 'Puffin', 2018, 60, 0),
    (9, 'Star of Ullin', 2001, 260, 45);

INSERT INTO routes VALUES
    (1, 1, 2, 34.5, 95),
    (2, 1, 4, 51.0, 130),
    (3, 2, 3, 9.2, 30),
    (4, 4, 6, 6.8, 20),
    (5, 7, 5, 42.3, 110),
    (6, 7, 1, 18.6, 45),
    (7, 5, 6, 7.5, 25),
    (8, 1, 5, 58.4, 150),
    (9, 2, 8, 27.9, 80);

INSERT INTO sailings VALUES
    (1, 1, 2, '2024-05-03', 412, 'on time'),
    (2, 1, 3, '2024-05-04', 287, 'delayed'),
    (3, 2, 7, '2024-05-04', 598, 'on time'),
    (4, 3, 8, '2024-05-05', 41, 'on time'),
    (5, 4, 4, '2024-05-06', 77, 'on time'),
    (6, 5, 5, '2024-05-06', 365, 'delayed'),
    (7, 6, 1, '2024-05-07', 122, 'on time'),
    (8, 2, 7, '2024-05-11', 631, 'on time'),
    (9, 8, 2, '2024-05-12', 455, 'cancelled'),
    (10, 7, 4, '2024-05-12', 58, 'on time'),
    (11, 1, 2, '2024-05-17', 498, 'on time'),
    (12, 3, 6, '2024-05-18', 64, 'cancelled'),
    (13, 5, 5, '2024-05-18', 390, 'on time'),
    (14, 2, 3, '2024-05-19', 233, 'delayed'),
    (15, 6, 1, '2024-05-24', 151, 'on time'),
    (16, 4, 8, '2024-05-25', 52, 'on time'),
    (17, 8, 7, '2024-05-26', 577, 'on time'),
    (18, 1, 5, '2024-05-31', 318, 'delayed');
