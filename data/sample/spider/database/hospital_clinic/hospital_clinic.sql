-- An outpatient clinic: doctors, patients, and the visits that bring them together.
CREATE TABLE doctors (
    doc_id INTEGER PRIMARY KEY,
    name TEXT,
    specialty TEXT,
    salary INTEGER,
    hire_year INTEGER
);
CREATE TABLE patients (
    pat_id INTEGER PRIMARY KEY,
    name TEXT,
    age INTEGER,
    sex TEXT,
    city TEXT
);
CREATE TABLE visits (
    visit_id INTEGER PRIMARY KEY,
    pat_id INTEGER,
    doc_id INTEGER,
    visit_date TEXT,
    reason TEXT,
    fee REAL,
    FOREIGN KEY (pat_id) REFERENCES patients (pat_id),
    FOREIGN KEY (doc_id) REFERENCES doctors (doc_id)
);

INSERT INTO doctors VALUES
    (1, 'Elena Marsh', 'cardiology', 142000, 2009),
    (2, 'Rajesh Iyer', 'pediatrics', 98000, 2015),
    (3, 'Beatriz Lopes', 'dermatology', 105000, 2012),
    (4, 'Hugo Lindqvist', 'cardiology', 151000, 2003),
    (5, 'Naomi Clarke', 'neurology', 160000, 2007),
    (6, 'Peter Vance', 'pediatrics', 93000, 2019),
    (7, 'Yara Said', 'general', 87000, 2020),
    (8, 'Marco Bellini', 'general', 90500, 2016),
    (9, 'Ingrid Falk', 'neurology', 138000, 2018);
INSERT INTO patients VALUES
    (101, 'Thomas Reed', 45, 'M', 'Lakeside'),
    (102, 'Alma Jensen', 7, 'F', 'Lakeside'),
    (103, 'Carl Obi', 62, 'M', 'Fairmont'),
    (104, 'Susan Pike', 33, 'F', 'Fairmont'),
    (105, 'Leo Marin', 5, 'M', 'Kingsport'),
    (106, 'Doris Weaver', 78, 'F', 'Lakeside'),
    (107, 'Hana Sato', 29, 'F', 'Kingsport'),
    (108, 'Milan Horvat', 51, 'M', 'Fairmont'),
    (109, 'Ruth Adler', 66, 'F', 'Bridgeton'),
    (110, 'Jonas Berg', 12, 'M', 'Lakeside'),
    (111, 'Petra Vogel', 40, 'F', 'Bridgeton'),
    (112, 'Isaac Mensah', 38, 'M', 'Kingsport');
INSERT INTO visits VALUES
    (1, 101, 1, '2024-01-08', 'chest pain', 180.0),
    (2, 102, 2, '2024-01-09', 'fever', 75.0),
    (3, 103, 4, '2024-01-11', 'checkup', 120.0),
    (4, 104, 3, '2024-01-15', 'skin rash', 95.5),
    (5, 105, 2, '2024-01-18', 'fever', 75.0),
    (6, 106, 4, '2024-01-22', 'chest pain', 210.0),
    (7, 106, 5, '2024-02-01', 'headache', 240.0),
    (8, 107, 7, '2024-02-03', 'checkup', 60.0),
    (9, 108, 1, '2024-02-07', 'checkup', 130.0),
    (10, 103, 8, '2024-02-12', 'back pain', 70.0),
    (11, 109, 5, '2024-02-14', 'headache', 255.0),
    (12, 110, 6, '2024-02-19', 'cough', 68.0),
    (13, 101, 8, '2024-02-23', 'back pain', 72.5),
    (14, 104, 7, '2024-03-04', 'cough', 58.0),
    (15, 106, 1, '2024-03-06', 'chest pain', 195.0),
    (16, 102, 6, '2024-03-11', 'cough', 70.0),
    (17, 109, 4, '2024-03-19', 'checkup', 125.0),
    (18, 108, 8, '2024-03-25', 'back pain', 66.0);
