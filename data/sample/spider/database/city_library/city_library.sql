-- A town library: authors, the books on its shelves, members, and what they borrowed.
CREATE TABLE author (
    author_id INTEGER PRIMARY KEY,
    name TEXT,
    country TEXT,
    birth_year INTEGER
);
CREATE TABLE book (
    book_id INTEGER PRIMARY KEY,
    title TEXT,
    author_id INTEGER,
    genre TEXT,
    pages INTEGER,
    pub_year INTEGER,
    FOREIGN KEY (author_id) REFERENCES author (author_id)
);
CREATE TABLE member (
    member_id INTEGER PRIMARY KEY,
    name TEXT,
    city TEXT,
    joined_on TEXT
);
CREATE TABLE loan (
    loan_id INTEGER PRIMARY KEY,
    book_id INTEGER,
    member_id INTEGER,
    loan_date TEXT,
    days_kept INTEGER,
    FOREIGN KEY (book_id) REFERENCES book (book_id),
    FOREIGN KEY (member_id) REFERENCES member (member_id)
);

INSERT INTO author VALUES
    (1, 'Ilse Brandt', 'Germany', 1951),
    (2, 'Mateus Carvalho', 'Brazil', 1968),
    (3, 'Noor Haddad', 'Lebanon', 1975),
    (4, 'Fiona McAllister', 'Scotland', 1949),
    (5, 'Kenji Morimoto', 'Japan', 1962),
    (6, 'Ana Ruiz', 'Spain', 1980),
    (7, 'Tomas Novak', 'Germany', 1944),
    (8, 'Grace Okafor', 'Nigeria', 1977),
    (9, 'Lena Sjoberg', 'Sweden', 1990);
INSERT INTO book VALUES
    (1, 'The Salt Road', 1, 'novel', 312, 1989),
    (2, 'Winter Ledger', 1, 'novel', 268, 1996),
    (3, 'Rivers Without Names', 2, 'travel', 190, 2004),
    (4, 'The Glass Orchard', 3, 'novel', 405, 2011),
    (5, 'A Short History of Bread', 4, 'history', 226, 1985),
    (6, 'Harbour Lights', 4, 'mystery', 334, 1992),
    (7, 'The Ninth Tide', 4, 'mystery', 298, 1999),
    (8, 'Paper Mountains', 5, 'poetry', 96, 2001),
    (9, 'Letters from Kobe', 5, 'travel', 154, 2008),
    (10, 'The Clockmaker Rules', 6, 'mystery', 287, 2016),
    (11, 'Iron and Ash', 7, 'history', 512, 1978),
    (12, 'Market Day', 8, 'novel', 243, 2014),
    (13, 'Drum and Ember', 8, 'poetry', 88, 2019),
    (14, 'The Quiet Engine', 6, 'science', 201, 2020);
INSERT INTO member VALUES
    (1, 'Paula Dietrich', 'Norwood', '2018-03-12'),
    (2, 'Samir Khan', 'Eastvale', '2019-07-01'),
    (3, 'Joyce Abbott', 'Norwood', '2016-11-23'),
    (4, 'Viktor Lund', 'Harrow Hill', '2021-01-15'),
    (5, 'Mei Tanaka', 'Eastvale', '2020-05-30'),
    (6, 'Oscar Bell', 'Norwood', '2022-09-08'),
    (7, 'Rita Fonseca', 'Harrow Hill', '2017-02-19'),
    (8, 'Dan Whitlock', 'Stonebridge', '2023-04-04'),
    (9, 'Helga Stein', 'Stonebridge', '2015-08-27'),
    (10, 'Amir Nouri', 'Eastvale', '2022-12-11'),
    (11, 'Celia Ward', 'Norwood', '2019-10-02');
INSERT INTO loan VALUES
    (1, 1, 1, '2023-01-10', 14),
    (2, 4, 1, '2023-02-02', 21),
    (3, 6, 2, '2023-01-15', 9),
    (4, 7, 2, '2023-02-11', 12),
    (5, 10, 2, '2023-03-05', 30),
    (6, 5, 3, '2023-01-28', 18),
    (7, 11, 3, '2023-03-14', 40),
    (8, 1, 4, '2023-02-20', 7),
    (9, 8, 5, '2023-03-01', 5),
    (10, 9, 5, '2023-03-09', 16),
    (11, 12, 6, '2023-04-02', 20),
    (12, 1, 7, '2023-04-12', 28),
    (13, 6, 7, '2023-05-03', 11),
    (14, 4, 3, '2023-05-18', 25),
    (15, 13, 5, '2023-06-06', 6),
    (16, 10, 10, '2023-06-21', 15),
    (17, 6, 1, '2023-07-07', 10),
    (18, 12, 2, '2023-07-19', 22),
    (19, 6, 11, '2023-08-01', 13);
