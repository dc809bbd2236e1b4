-- A neighbourhood bakery: what it bakes, its regular customers, and its sales.
CREATE TABLE products (
    prod_id INTEGER PRIMARY KEY,
    prod_name TEXT,
    category TEXT,
    price REAL,
    weight_g INTEGER
);
CREATE TABLE customers (
    cust_id INTEGER PRIMARY KEY,
    cust_name TEXT,
    street TEXT,
    since_year INTEGER
);
CREATE TABLE sales (
    sale_id INTEGER PRIMARY KEY,
    cust_id INTEGER,
    prod_id INTEGER,
    qty INTEGER,
    sale_day TEXT,
    FOREIGN KEY (cust_id) REFERENCES customers (cust_id),
    FOREIGN KEY (prod_id) REFERENCES products (prod_id)
);

INSERT INTO products VALUES
    (1, 'rye loaf', 'bread', 4.2, 800),
    (2, 'baguette', 'bread', 2.1, 250),
    (3, 'olive focaccia', 'bread', 5.5, 400),
    (4, 'butter croissant', 'pastry', 1.9, 70),
    (5, 'almond croissant', 'pastry', 2.8, 95),
    (6, 'cinnamon roll', 'pastry', 2.6, 110),
    (7, 'carrot cake', 'cake', 24.0, 1200),
    (8, 'lemon tart', 'cake', 18.5, 900),
    (9, 'cherry cake', 'cake', 22.0, 1100),
    (10, 'oat cookie', 'cookie', 1.2, 45),
    (11, 'ginger cookie', 'cookie', 1.3, 40),
    (12, 'pretzel', 'pastry', 1.5, 85);
INSERT INTO customers VALUES
    (1, 'Nadia Frost', 'Mill Lane', 2012),
    (2, 'George Pappas', 'High Street', 2018),
    (3, 'Linda Chow', 'Mill Lane', 2020),
    (4, 'Ben Carver', 'Station Road', 2015),
    (5, 'Olga Smirnova', 'High Street', 2021),
    (6, 'Cafe Rosso', 'Market Square', 2016),
    (7, 'Hotel Belmont', 'Station Road', 2010),
    (8, 'Theo Grant', 'Mill Lane', 2022),
    (9, 'Iris Holm', 'Garden Close', 2019);
INSERT INTO sales VALUES
    (1, 1, 1, 1, 'Monday'),
    (2, 6, 4, 40, 'Monday'),
    (3, 7, 2, 25, 'Monday'),
    (4, 2, 10, 6, 'Tuesday'),
    (5, 3, 5, 3, 'Tuesday'),
    (6, 6, 6, 20, 'Tuesday'),
    (7, 7, 4, 60, 'Wednesday'),
    (8, 4, 1, 2, 'Wednesday'),
    (9, 1, 12, 4, 'Thursday'),
    (10, 5, 7, 1, 'Thursday'),
    (11, 6, 4, 35, 'Friday'),
    (12, 2, 3, 2, 'Friday'),
    (13, 7, 2, 30, 'Friday'),
    (14, 3, 8, 1, 'Saturday'),
    (15, 4, 6, 5, 'Saturday'),
    (16, 1, 2, 2, 'Saturday'),
    (17, 5, 2, 1, 'Saturday'),
    (18, 8, 10, 12, 'Saturday'),
    (19, 2, 7, 1, 'Saturday');
