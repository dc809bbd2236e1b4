-- An art museum: artists, the rooms of the building, and the works that hang or stand in them.
CREATE TABLE artist (
    id INTEGER PRIMARY KEY,
    name TEXT,
    nationality TEXT,
    born INTEGER
);
CREATE TABLE room (
    id INTEGER PRIMARY KEY,
    room_name TEXT,
    floor INTEGER,
    area_m2 INTEGER
);
CREATE TABLE artwork (
    id INTEGER PRIMARY KEY,
    title TEXT,
    artist_id INTEGER,
    room_id INTEGER,
    medium TEXT,
    year_made INTEGER,
    value INTEGER,
    FOREIGN KEY (artist_id) REFERENCES artist (id),
    FOREIGN KEY (room_id) REFERENCES room (id)
);

INSERT INTO artist VALUES
    (1, 'Clara Winther', 'Danish', 1872),
    (2, 'Paolo Gentile', 'Italian', 1901),
    (3, 'Edith Varga', 'Hungarian', 1898),
    (4, 'Simon Achterberg', 'Dutch', 1855),
    (5, 'Rosa Mendel', 'Austrian', 1923),
    (6, 'Yusuf Demir', 'Turkish', 1940),
    (7, 'Hannah Cole', 'British', 1961),
    (8, 'Giulia Serra', 'Italian', 1958),
    (9, 'Anton Krol', 'Dutch', 1930);
INSERT INTO room VALUES
    (1, 'East Gallery', 1, 120),
    (2, 'West Gallery', 1, 95),
    (3, 'Sculpture Hall', 0, 260),
    (4, 'Blue Salon', 2, 60),
    (5, 'Print Room', 2, 45),
    (6, 'Sky Room', 3, 150),
    (7, 'Garden Hall', 0, 180),
    (8, 'Study', 3, 30);
INSERT INTO artwork VALUES
    (1, 'Fjord at Dusk', 1, 1, 'oil', 1904, 420000),
    (2, 'The Net Menders', 1, 1, 'oil', 1910, 380000),
    (3, 'Standing Figure', 2, 3, 'bronze', 1938, 650000),
    (4, 'Woman with Lute', 3, 2, 'oil', 1931, 290000),
    (5, 'Tram Stop', 3, 5, 'print', 1929, 45000),
    (6, 'Mill in Winter', 4, 1, 'oil', 1889, 530000),
    (7, 'Two Cows', 4, 4, 'watercolor', 1892, 88000),
    (8, 'Reclining Stone', 5, 3, 'marble', 1962, 310000),
    (9, 'Bosphorus', 6, 6, 'acrylic', 1984, 150000),
    (10, 'Harvest Moon', 7, 6, 'acrylic', 1999, 97000),
    (11, 'Study in Red', 7, 5, 'print', 2003, 18000),
    (12, 'Column III', 8, 7, 'marble', 1995, 205000),
    (13, 'Moonlit Quay', 1, 2, 'oil', 1915, 345000),
    (14, 'Horse and Boy', 2, 7, 'bronze', 1946, 480000),
    (15, 'Lagoon', 8, 6, 'acrylic', 2008, 76000),
    (16, 'Old Harbour', 4, 2, 'oil', 1897, 610000);
