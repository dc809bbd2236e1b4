CREATE TABLE games (
    game_id INTEGER PRIMARY KEY,
    title TEXT,
    designer TEXT,
    category TEXT,
    max_players INTEGER,
    play_minutes INTEGER,
    price REAL
);
CREATE TABLE members (
    member_id INTEGER PRIMARY KEY,
    name TEXT,
    city TEXT,
    age INTEGER,
    join_year INTEGER
);
CREATE TABLE sessions (
    session_id INTEGER PRIMARY KEY,
    game_id INTEGER,
    play_date TEXT,
    room TEXT,
    FOREIGN KEY (game_id) REFERENCES games (game_id)
);
CREATE TABLE scores (
    session_id INTEGER,
    member_id INTEGER,
    points INTEGER,
    PRIMARY KEY (session_id, member_id),
    FOREIGN KEY (session_id) REFERENCES sessions (session_id),
    FOREIGN KEY (member_id) REFERENCES members (member_id)
);

INSERT INTO games VALUES
    (1, 'Harbour Barons', 'Lena Hartwig', 'strategy', 4, 90, 49.9),
    (2, 'Moss and Stone', 'Ivo Petrak', 'family', 5, 40, 29.5),
    (3, 'Signal Lost', 'Lena Hartwig', 'cooperative', 4, 60, 39.0),
    (4, 'Seven Lanterns', 'Mei Tanaka', 'family', 6, 30, 24.0),
    (5, 'Iron Caravan', 'Dario Bellini', 'strategy', 5, 150, 68.0),
    (6, 'Whisper Deck', 'Mei Tanaka', 'party', 8, 20, 18.5),
    (7, 'Beekeepers', 'Ivo Petrak', 'strategy', 4, 75, 44.0),
    (8, 'Night Market', 'Carla Nunes', 'party', 10, 25, 21.0),
    (9, 'Glacier Run', 'Dario Bellini', 'cooperative', 5, 80, 52.5),
    (10, 'Crown of Thistles', 'Lena Hartwig', 'strategy', 2, 45, 33.0);

INSERT INTO members VALUES
    (1, 'Agnes Holt', 'Linton', 34, 2018),
    (2, 'Boris Vlcek', 'Farley', 51, 2016),
    (3, 'Chidi Eze', 'Linton', 27, 2021),
    (4, 'Dana Weiss', 'Oakhurst', 42, 2019),
    (5, 'Emil Sandberg', 'Farley', 19, 2023),
    (6, 'Farah Aziz', 'Linton', 38, 2016),
    (7, 'Gus Paterson', 'Oakhurst', 63, 2017),
    (8, 'Hiroko Abe', 'Linton', 30, 2022),
    (9, 'Ines Cardoso', 'Brixley', 24, 2023),
    (10, 'Jonas Beck', 'Farley', 45, 2020);

INSERT INTO sessions VALUES
    (1, 1, '2024-01-05', 'Blue Room'),
    (2, 4, '2024-01-12', 'Attic'),
    (3, 5, '2024-01-19', 'Blue Room'),
    (4, 2, '2024-01-26', 'Cafe'),
    (5, 1, '2024-02-02', 'Attic'),
    (6, 6, '2024-02-09', 'Cafe'),
    (7, 7, '2024-02-16', 'Blue Room'),
    (8, 3, '2024-02-23', 'Attic'),
    (9, 1, '2024-03-01', 'Blue Room'),
    (10, 5, '2024-03-08', 'Blue Room'),
    (11, 4, '2024-03-15', 'Cafe');

INSERT INTO scores VALUES
    (1, 1, 84),
    (1, 2, 91),
    (1, 4, 77),
    (2, 3, 32),
    (2, 5, 28),
    (3, 1, 110),
    (3, 2, 125),
    (3, 7, 98),
    (4, 6, 45),
    (4, 8, 52),
    (5, 1, 95),
    (5, 3, 88),
    (6, 5, 14),
    (6, 8, 17),
    (7, 2, 66),
    (7, 4, 71),
    (8, 6, 40),
    (8, 1, 41),
    (9, 3, 102),
    (9, 6, 79),
    (10, 2, 131),
    (10, 8, 116),
    (11, 1, 36),
    (11, 4, 30);
