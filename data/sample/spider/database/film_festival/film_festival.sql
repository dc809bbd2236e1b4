-- A film festival: the films shown, their screenings, and the awards they won.
CREATE TABLE film (
    film_id INTEGER PRIMARY KEY,
    title TEXT,
    director TEXT,
    country TEXT,
    minutes INTEGER,
    year INTEGER
);
CREATE TABLE screening (
    screening_id INTEGER PRIMARY KEY,
    film_id INTEGER,
    hall TEXT,
    day INTEGER,
    tickets INTEGER,
    FOREIGN KEY (film_id) REFERENCES film (film_id)
);
CREATE TABLE award (
    award_id INTEGER PRIMARY KEY,
    film_id INTEGER,
    category TEXT,
    prize INTEGER,
    FOREIGN KEY (film_id) REFERENCES film (film_id)
);

INSERT INTO film VALUES
    (1, 'Blue Kilometre', 'Agnes Thorpe', 'Canada', 104, 2021),
    (2, 'The Beekeeper Sings', 'Luka Petrov', 'Bulgaria', 91, 2022),
    (3, 'Salt in the Wires', 'Marisol Vega', 'Mexico', 118, 2022),
    (4, 'Night Tram', 'Jan Kowal', 'Poland', 87, 2020),
    (5, 'Seven Umbrellas', 'Marisol Vega', 'Mexico', 132, 2020),
    (6, 'Low Water', 'Owen Hale', 'Ireland', 95, 2023),
    (7, 'A House for Crows', 'Agnes Thorpe', 'Canada', 110, 2023),
    (8, 'Static', 'Dae Min', 'South Korea', 79, 2022),
    (9, 'The Last Ferryman', 'Owen Hale', 'Ireland', 141, 2021),
    (10, 'Copper Sky', 'Tariq Aziz', 'Morocco', 99, 2023),
    (11, 'Tiny Republics', 'Jan Kowal', 'Poland', 65, 2023),
    (12, 'Orange Season', 'Lucia Ferri', 'Italy', 102, 2021);
INSERT INTO screening VALUES
    (1, 1, 'Grand', 1, 410),
    (2, 2, 'Studio', 1, 120),
    (3, 3, 'Grand', 2, 455),
    (4, 4, 'Lantern', 2, 88),
    (5, 5, 'Grand', 3, 390),
    (6, 6, 'Studio', 3, 142),
    (7, 7, 'Lantern', 4, 101),
    (8, 8, 'Studio', 4, 64),
    (9, 3, 'Lantern', 5, 97),
    (10, 9, 'Grand', 5, 472),
    (11, 10, 'Studio', 6, 133),
    (12, 1, 'Lantern', 6, 79),
    (13, 7, 'Grand', 7, 438),
    (14, 2, 'Lantern', 7, 92),
    (15, 3, 'Studio', 8, 150),
    (16, 6, 'Grand', 8, 365);
INSERT INTO award VALUES
    (1, 3, 'best film', 20000),
    (2, 9, 'best director', 10000),
    (3, 2, 'best music', 5000),
    (4, 7, 'audience prize', 8000),
    (5, 3, 'best actress', 6000),
    (6, 6, 'best actor', 6500),
    (7, 8, 'best debut', 4000),
    (8, 7, 'best camera', 5500);
