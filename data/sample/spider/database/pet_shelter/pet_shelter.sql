CREATE TABLE animals (
    animal_id INTEGER PRIMARY KEY,
    name TEXT,
    species TEXT,
    breed TEXT,
    age_years INTEGER,
    weight_kg REAL,
    arrival_date TEXT
);
CREATE TABLE adopters (
    adopter_id INTEGER PRIMARY KEY,
    full_name TEXT,
    city TEXT
);
CREATE TABLE adoptions (
    adoption_id INTEGER PRIMARY KEY,
    animal_id INTEGER,
    adopter_id INTEGER,
    adoption_date TEXT,
    fee REAL,
    FOREIGN KEY (animal_id) REFERENCES animals (animal_id),
    FOREIGN KEY (adopter_id) REFERENCES adopters (adopter_id)
);
CREATE TABLE vet_visits (
    visit_id INTEGER PRIMARY KEY,
    animal_id INTEGER,
    visit_date TEXT,
    reason TEXT,
    cost REAL,
    FOREIGN KEY (animal_id) REFERENCES animals (animal_id)
);

INSERT INTO animals VALUES
    (1, 'Biscuit', 'dog', 'Beagle', 4, 12.5, '2023-01-14'),
    (2, 'Marzipan', 'cat', 'Siamese', 2, 3.9, '2023-02-03'),
    (3, 'Thunder', 'dog', 'Greyhound', 7, 29.0, '2023-02-20'),
    (4, 'Pickle', 'rabbit', 'Dutch', 1, 2.1, '2023-03-08'),
    (5, 'Olive', 'cat', 'Domestic Shorthair', 9, 4.7, '2023-03-15'),
    (6, 'Captain', 'dog', 'Labrador', 3, 31.4, '2023-04-02'),
    (7, 'Nutmeg', 'rabbit', 'Lionhead', 2, 1.6, '2023-04-19'),
    (8, 'Shadow', 'cat', 'Domestic Shorthair', 5, 5.2, '2023-05-11'),
    (9, 'Rosie', 'dog', 'Beagle', 10, 14.2, '2023-05-30'),
    (10, 'Figaro', 'cat', 'Maine Coon', 3, 7.8, '2023-06-06'),
    (11, 'Peanut', 'hamster', 'Syrian', 1, 0.1, '2023-06-21'),
    (12, 'Duchess', 'dog', 'Poodle', 6, 8.3, '2023-07-09'),
    (13, 'Clover', 'rabbit', 'Dutch', 4, 2.4, '2023-07-25'),
    (14, 'Ziggy', 'cat', 'Domestic Shorthair', 1, 2.8, '2023-08-17'),
    (15, 'Bruno', 'dog', 'Labrador', 8, 34.6, '2023-09-01');

INSERT INTO adopters VALUES
    (1, 'Hannah Voss', 'Millbrook'),
    (2, 'Tomas Ortega', 'Eastvale'),
    (3, 'Priya Nair', 'Millbrook'),
    (4, 'Walter Quinn', 'Harrow Bay'),
    (5, 'Amina Yusuf', 'Eastvale'),
    (6, 'Greta Lindqvist', 'Millbrook'),
    (7, 'Sam Okoro', 'Stonefield'),
    (8, 'Lucia Ferrante', 'Harrow Bay');

INSERT INTO adoptions VALUES
    (1, 1, 1, '2023-03-01', 120.0),
    (2, 2, 3, '2023-03-18', 80.0),
    (3, 4, 2, '2023-04-05', 35.0),
    (4, 6, 4, '2023-05-07', 150.0),
    (5, 7, 2, '2023-05-21', 35.0),
    (6, 10, 6, '2023-07-02', 95.0),
    (7, 12, 1, '2023-08-13', 110.0),
    (8, 11, 5, '2023-08-20', 15.0),
    (9, 14, 1, '2023-09-24', 70.0),
    (10, 13, 7, '2023-10-08', 40.0);

INSERT INTO vet_visits VALUES
    (1, 1, '2023-01-16', 'vaccination', 45.0),
    (2, 2, '2023-02-05', 'vaccination', 42.0),
    (3, 3, '2023-02-22', 'dental cleaning', 130.0),
    (4, 3, '2023-03-30', 'limping', 210.0),
    (5, 4, '2023-03-10', 'checkup', 30.0),
    (6, 5, '2023-03-17', 'blood test', 88.0),
    (7, 5, '2023-06-12', 'dental cleaning', 125.0),
    (8, 5, '2023-09-14', 'checkup', 38.0),
    (9, 6, '2023-04-04', 'vaccination', 47.0),
    (10, 8, '2023-05-13', 'ear infection', 72.0),
    (11, 9, '2023-06-01', 'checkup', 36.0),
    (12, 9, '2023-08-09', 'blood test', 92.0),
    (13, 10, '2023-06-08', 'vaccination', 44.0),
    (14, 12, '2023-07-11', 'eye infection', 64.0),
    (15, 15, '2023-09-03', 'checkup', 41.0),
    (16, 15, '2023-10-02', 'hip x-ray', 245.0);
