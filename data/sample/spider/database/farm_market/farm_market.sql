-- A weekly farmers market: farmers, kinds of produce, and what each stall sold.
CREATE TABLE farmers (
    farmer_id INTEGER PRIMARY KEY,
    fname TEXT,
    lname TEXT,
    village TEXT,
    acres REAL
);
CREATE TABLE produce (
    produce_id INTEGER PRIMARY KEY,
    name TEXT,
    type TEXT,
    price_kg REAL,
    organic TEXT
);
CREATE TABLE stalls (
    stall_id INTEGER PRIMARY KEY,
    farmer_id INTEGER,
    produce_id INTEGER,
    weekday TEXT,
    kg_sold REAL,
    FOREIGN KEY (farmer_id) REFERENCES farmers (farmer_id),
    FOREIGN KEY (produce_id) REFERENCES produce (produce_id)
);

INSERT INTO farmers VALUES
    (1, 'Walter', 'Pike', 'Oakham', 34.5),
    (2, 'Sofia', 'Marin', 'Lowfield', 12.0),
    (3, 'Bert', 'Haskell', 'Oakham', 58.0),
    (4, 'Amara', 'Njoku', 'Thornby', 8.5),
    (5, 'Celine', 'Dubois', 'Lowfield', 21.0),
    (6, 'Isak', 'Nyberg', 'Ashwell', 40.0),
    (7, 'Maggie', 'Doyle', 'Oakham', 15.5),
    (8, 'Tom', 'Hardwick', 'Thornby', 72.0),
    (9, 'Dora', 'Szabo', 'Ashwell', 5.0);
INSERT INTO produce VALUES
    (1, 'carrot', 'vegetable', 1.8, 'yes'),
    (2, 'potato', 'vegetable', 1.1, 'no'),
    (3, 'tomato', 'vegetable', 3.2, 'yes'),
    (4, 'apple', 'fruit', 2.4, 'no'),
    (5, 'pear', 'fruit', 2.9, 'yes'),
    (6, 'strawberry', 'fruit', 7.5, 'yes'),
    (7, 'goat cheese', 'dairy', 19.0, 'yes'),
    (8, 'butter', 'dairy', 11.5, 'no'),
    (9, 'honey', 'other', 14.0, 'no'),
    (10, 'spinach', 'vegetable', 4.6, 'yes'),
    (11, 'plum', 'fruit', 3.4, 'no');
INSERT INTO stalls VALUES
    (1, 1, 1, 'Saturday', 42.0),
    (2, 1, 2, 'Saturday', 120.5),
    (3, 2, 3, 'Wednesday', 35.0),
    (4, 2, 10, 'Saturday', 14.5),
    (5, 3, 2, 'Wednesday', 98.0),
    (6, 3, 4, 'Saturday', 76.0),
    (7, 4, 6, 'Saturday', 18.0),
    (8, 5, 5, 'Wednesday', 22.5),
    (9, 5, 4, 'Saturday', 51.0),
    (10, 6, 7, 'Saturday', 9.5),
    (11, 6, 8, 'Wednesday', 12.0),
    (12, 7, 9, 'Saturday', 16.0),
    (13, 8, 2, 'Saturday', 150.0),
    (14, 8, 1, 'Wednesday', 64.0),
    (15, 7, 6, 'Wednesday', 11.0),
    (16, 3, 1, 'Saturday', 55.0),
    (17, 4, 3, 'Wednesday', 20.0);
