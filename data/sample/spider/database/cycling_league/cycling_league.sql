-- A season of a cycling league: teams, riders, races, and who came in where.
CREATE TABLE team (
    team_id INTEGER PRIMARY KEY,
    team_name TEXT,
    base_city TEXT,
    budget INTEGER
);
CREATE TABLE rider (
    rider_id INTEGER PRIMARY KEY,
    rider_name TEXT,
    team_id INTEGER,
    age INTEGER,
    nationality TEXT,
    weight_kg REAL,
    FOREIGN KEY (team_id) REFERENCES team (team_id)
);
CREATE TABLE race (
    race_id INTEGER PRIMARY KEY,
    race_name TEXT,
    distance_km REAL,
    terrain TEXT
);
CREATE TABLE result (
    race_id INTEGER,
    rider_id INTEGER,
    position INTEGER,
    points INTEGER,
    PRIMARY KEY (race_id, rider_id),
    FOREIGN KEY (race_id) REFERENCES race (race_id),
    FOREIGN KEY (rider_id) REFERENCES rider (rider_id)
);

INSERT INTO team VALUES
    (1, 'Red Falcons', 'Ghent', 5200000),
    (2, 'Alpine Wheels', 'Grenoble', 7800000),
    (3, 'Team Meseta', 'Burgos', 3100000),
    (4, 'Northwind', 'Aarhus', 4500000),
    (5, 'Silver Spokes', 'Ghent', 2600000),
    (6, 'Costa Verde', 'Porto', 1900000),
    (7, 'Black Chain', 'Leeds', 6100000),
    (8, 'Delta Sprint', 'Rotterdam', 3900000);
INSERT INTO rider VALUES
    (1, 'Wout Claes', 1, 27, 'Belgian', 71.5),
    (2, 'Jonas Peeters', 1, 31, 'Belgian', 68.0),
    (3, 'Luc Marchand', 2, 24, 'French', 62.3),
    (4, 'Remi Garnier', 2, 29, 'French', 64.8),
    (5, 'Iker Salas', 3, 33, 'Spanish', 60.1),
    (6, 'Diego Roman', 3, 22, 'Spanish', 63.7),
    (7, 'Mads Holm', 4, 26, 'Danish', 74.2),
    (8, 'Emil Krogh', 4, 35, 'Danish', 70.9),
    (9, 'Pieter Jansen', 5, 21, 'Dutch', 69.4),
    (10, 'Rui Teixeira', 6, 28, 'Portuguese', 61.0),
    (11, 'Adam Firth', 7, 30, 'British', 76.5),
    (12, 'Callum Rowe', 7, 23, 'British', 66.6),
    (13, 'Sven Bakker', 1, 25, 'Dutch', 72.8);
INSERT INTO race VALUES
    (1, 'Harbour Classic', 182.5, 'flat'),
    (2, 'Stone Wall Tour', 214.0, 'cobbles'),
    (3, 'Eagle Pass', 156.3, 'mountain'),
    (4, 'Vineyard Loop', 171.8, 'hilly'),
    (5, 'Sunrise Time Trial', 38.4, 'flat'),
    (6, 'Three Summits', 198.7, 'mountain'),
    (7, 'Canal Sprint', 120.0, 'flat'),
    (8, 'Old Forest Ride', 165.0, 'hilly');
INSERT INTO result VALUES
    (1, 1, 1, 50), (1, 7, 2, 40), (1, 11, 3, 32),
    (2, 13, 1, 50), (2, 1, 2, 40), (2, 8, 3, 32),
    (3, 5, 1, 50), (3, 3, 2, 40), (3, 10, 3, 32),
    (4, 3, 1, 50), (4, 12, 2, 40), (4, 2, 3, 32),
    (5, 7, 1, 50), (5, 11, 2, 40), (5, 13, 3, 32),
    (6, 3, 1, 50), (6, 5, 2, 40), (6, 6, 3, 32),
    (7, 13, 1, 50), (7, 1, 2, 40), (7, 7, 3, 32);
