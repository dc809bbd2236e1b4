-- A music school: teachers, pupils, weekly lessons, and marks from the recital.
CREATE TABLE teacher (
    tid INTEGER PRIMARY KEY,
    tname TEXT,
    instrument TEXT,
    hourly_rate REAL
);
CREATE TABLE pupil (
    pid INTEGER PRIMARY KEY,
    pname TEXT,
    age INTEGER,
    level TEXT,
    town TEXT
);
CREATE TABLE lesson (
    lid INTEGER PRIMARY KEY,
    tid INTEGER,
    pid INTEGER,
    weekday TEXT,
    length_min INTEGER,
    FOREIGN KEY (tid) REFERENCES teacher (tid),
    FOREIGN KEY (pid) REFERENCES pupil (pid)
);
CREATE TABLE recital (
    rec_id INTEGER PRIMARY KEY,
    pid INTEGER,
    piece TEXT,
    score REAL,
    FOREIGN KEY (pid) REFERENCES pupil (pid)
);

INSERT INTO teacher VALUES
    (1, 'Vera Lund', 'piano', 48.0),
    (2, 'Marcus Webb', 'guitar', 36.0),
    (3, 'Chiara Neri', 'violin', 52.0),
    (4, 'Joao Prado', 'guitar', 40.0),
    (5, 'Hilde Kranz', 'cello', 55.0),
    (6, 'Sam Osei', 'drums', 34.0),
    (7, 'Mina Park', 'piano', 45.0),
    (8, 'Elliot Shaw', 'flute', 38.5);
INSERT INTO pupil VALUES
    (1, 'Nina Croft', 9, 'beginner', 'Elmwood'),
    (2, 'Felix Braun', 14, 'intermediate', 'Elmwood'),
    (3, 'Zoe Lam', 17, 'advanced', 'Riverton'),
    (4, 'Arthur Quinn', 11, 'beginner', 'Riverton'),
    (5, 'Maya Singh', 16, 'advanced', 'Pinehurst'),
    (6, 'Luis Ortega', 12, 'intermediate', 'Elmwood'),
    (7, 'Hedda Moe', 42, 'beginner', 'Pinehurst'),
    (8, 'Ivan Markov', 15, 'advanced', 'Riverton'),
    (9, 'Cleo Dubois', 10, 'beginner', 'Elmwood'),
    (10, 'Jack Mooney', 35, 'intermediate', 'Gladwyn'),
    (11, 'Tara Blake', 13, 'intermediate', 'Riverton');
INSERT INTO lesson VALUES
    (1, 1, 1, 'Monday', 30),
    (2, 1, 3, 'Monday', 60),
    (3, 2, 2, 'Tuesday', 45),
    (4, 3, 5, 'Tuesday', 60),
    (5, 4, 4, 'Wednesday', 30),
    (6, 5, 8, 'Wednesday', 60),
    (7, 6, 6, 'Thursday', 45),
    (8, 7, 9, 'Thursday', 30),
    (9, 1, 8, 'Friday', 45),
    (10, 3, 3, 'Friday', 50),
    (11, 2, 7, 'Friday', 30),
    (12, 1, 11, 'Tuesday', 40),
    (13, 7, 5, 'Monday', 55),
    (14, 4, 10, 'Thursday', 45),
    (15, 3, 2, 'Wednesday', 40);
INSERT INTO recital VALUES
    (1, 3, 'Autumn Waltz', 9.1),
    (2, 5, 'Caprice in G', 9.6),
    (3, 8, 'Elegy for Cello', 8.8),
    (4, 2, 'Rumba Study', 7.4),
    (5, 6, 'Snare March', 6.9),
    (6, 1, 'Little Steps', 7.8),
    (7, 11, 'Rain Prelude', 8.2),
    (8, 3, 'Night Romance', 8.5),
    (9, 10, 'Slow Blues', 6.2),
    (10, 5, 'Spring Sonata', 9.3);
