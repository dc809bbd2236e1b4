CREATE TABLE areas (
    area_id INTEGER PRIMARY KEY,
    area_name TEXT,
    kind TEXT,
    size_m2 INTEGER
);
CREATE TABLE plants (
    plant_id INTEGER PRIMARY KEY,
    common_name TEXT,
    family TEXT,
    origin TEXT,
    height_cm INTEGER,
    planted_year INTEGER,
    area_id INTEGER,
    FOREIGN KEY (area_id) REFERENCES areas (area_id)
);
CREATE TABLE gardeners (
    gardener_id INTEGER PRIMARY KEY,
    gardener_name TEXT,
    hire_year INTEGER,
    hourly_wage REAL
);
CREATE TABLE care_tasks (
    task_id INTEGER PRIMARY KEY,
    plant_id INTEGER,
    gardener_id INTEGER,
    task_type TEXT,
    task_date TEXT,
    minutes INTEGER,
    FOREIGN KEY (plant_id) REFERENCES plants (plant_id),
    FOREIGN KEY (gardener_id) REFERENCES gardeners (gardener_id)
);

INSERT INTO areas VALUES
    (1, 'Palm House', 'glasshouse', 900),
    (2, 'Desert House', 'glasshouse', 420),
    (3, 'Rose Walk', 'outdoor', 1500),
    (4, 'Alpine Terrace', 'outdoor', 650),
    (5, 'Orchid Room', 'glasshouse', 180),
    (6, 'Lakeside', 'outdoor', 3200),
    (7, 'Herb Court', 'outdoor', 300),
    (8, 'Nursery', 'glasshouse', 250);

INSERT INTO plants VALUES
    (1, 'Canary Island date palm', 'Arecaceae', 'Spain', 720, 1968, 1),
    (2, 'Banana', 'Musaceae', 'India', 310, 2009, 1),
    (3, 'Golden barrel cactus', 'Cactaceae', 'Mexico', 85, 1994, 2),
    (4, 'Saguaro', 'Cactaceae', 'Mexico', 260, 1979, 2),
    (5, 'Aloe vera', 'Asphodelaceae', 'Oman', 60, 2014, 2),
    (6, 'Damask rose', 'Rosaceae', 'Iran', 180, 2003, 3),
    (7, 'Dog rose', 'Rosaceae', 'Spain', 240, 1998, 3),
    (8, 'Edelweiss', 'Asteraceae', 'Switzerland', 18, 2017, 4),
    (9, 'Spring gentian', 'Gentianaceae', 'Switzerland', 8, 2019, 4),
    (10, 'Moth orchid', 'Orchidaceae', 'Indonesia', 45, 2016, 5),
    (11, 'Vanilla orchid', 'Orchidaceae', 'Mexico', 290, 2011, 5),
    (12, 'Weeping willow', 'Salicaceae', 'China', 1150, 1952, 6),
    (13, 'Japanese maple', 'Sapindaceae', 'Japan', 430, 1985, 6),
    (14, 'Yellow iris', 'Iridaceae', 'Switzerland', 105, 2005, 6),
    (15, 'Rosemary', 'Lamiaceae', 'Spain', 95, 2012, 7),
    (16, 'Common sage', 'Lamiaceae', 'Italy', 55, 2012, 7),
    (17, 'Holy basil', 'Lamiaceae', 'India', 50, 2021, 7),
    (18, 'Black bat flower', 'Dioscoreaceae', 'Indonesia', 70, 2018, 1);

INSERT INTO gardeners VALUES
    (1, 'Edith Marlowe', 2002, 24.5),
    (2, 'Rafael Sousa', 2015, 19.0),
    (3, 'Ingrid Halvorsen', 2010, 21.75),
    (4, 'Kofi Mensah', 2019, 17.5),
    (5, 'Beatrice Chan', 2008, 22.4),
    (6, 'Oliver Drummond', 2021, 16.0),
    (7, 'Naledi Khumalo', 2017, 18.25),
    (8, 'Pierre Gaudin', 2023, 15.5);

INSERT INTO care_tasks VALUES
    (1, 1, 1, 'pruning', '2024-03-04', 120),
    (2, 2, 2, 'watering', '2024-03-05', 15),
    (3, 4, 3, 'repotting', '2024-03-06', 90),
    (4, 6, 5, 'pruning', '2024-03-11', 75),
    (5, 7, 5, 'pruning', '2024-03-11', 60),
    (6, 10, 7, 'watering', '2024-03-12', 10),
    (7, 11, 7, 'fertilizing', '2024-03-12', 25),
    (8, 12, 1, 'pruning', '2024-03-18', 200),
    (9, 15, 4, 'watering', '2024-03-19', 20),
    (10, 16, 4, 'weeding', '2024-03-19', 35),
    (11, 10, 2, 'repotting', '2024-03-25', 40),
    (12, 13, 1, 'fertilizing', '2024-03-26', 50),
    (13, 6, 6, 'weeding', '2024-04-02', 55),
    (14, 2, 2, 'fertilizing', '2024-04-03', 30),
    (15, 8, 3, 'weeding', '2024-04-08', 45),
    (16, 10, 7, 'watering', '2024-04-09', 12),
    (17, 14, 6, 'pruning', '2024-04-10', 65),
    (18, 17, 4, 'watering', '2024-04-15', 18),
    (19, 12, 5, 'watering', '2024-04-16', 28),
    (20, 18, 2, 'watering', '2024-04-17', 14);
