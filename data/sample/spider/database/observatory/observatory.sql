CREATE TABLE telescopes (
    telescope_id INTEGER PRIMARY KEY,
    telescope_name TEXT,
    design TEXT,
    aperture_cm INTEGER,
    installed_year INTEGER
);
CREATE TABLE astronomers (
    astronomer_id INTEGER PRIMARY KEY,
    name TEXT,
    country TEXT,
    specialty TEXT
);
CREATE TABLE targets (
    target_id INTEGER PRIMARY KEY,
    target_name TEXT,
    kind TEXT,
    constellation TEXT,
    magnitude REAL
);
CREATE TABLE observations (
    observation_id INTEGER PRIMARY KEY,
    telescope_id INTEGER,
    astronomer_id INTEGER,
    target_id INTEGER,
    night TEXT,
    exposure_minutes INTEGER,
    sky_quality TEXT,
    FOREIGN KEY (telescope_id) REFERENCES telescopes (telescope_id),
    FOREIGN KEY (astronomer_id) REFERENCES astronomers (astronomer_id),
    FOREIGN KEY (target_id) REFERENCES targets (target_id)
);

INSERT INTO telescopes VALUES
    (1, 'Old Refractor', 'refractor', 40, 1908),
    (2, 'Meridian', 'refractor', 25, 1931),
    (3, 'Halden Reflector', 'reflector', 150, 1974),
    (4, 'Sparrow', 'reflector', 60, 1999),
    (5, 'Wide Eye', 'catadioptric', 80, 2012),
    (6, 'Condor', 'reflector', 240, 2018),
    (7, 'Student Dome', 'catadioptric', 35, 2005),
    (8, 'Sun Tower', 'refractor', 30, 1956);

INSERT INTO astronomers VALUES
    (1, 'Miriam Adler', 'Austria', 'galaxies'),
    (2, 'Joaquin Reyes', 'Chile', 'variable stars'),
    (3, 'Yuki Morita', 'Japan', 'nebulae'),
    (4, 'Helen Stroud', 'Canada', 'galaxies'),
    (5, 'Tendai Moyo', 'Zimbabwe', 'star clusters'),
    (6, 'Lars Nygaard', 'Norway', 'variable stars'),
    (7, 'Valentina Soto', 'Chile', 'exoplanets'),
    (8, 'Peter Kowal', 'Canada', 'nebulae');

INSERT INTO targets VALUES
    (1, 'Andromeda Galaxy', 'galaxy', 'Andromeda', 3.4),
    (2, 'Orion Nebula', 'nebula', 'Orion', 4.0),
    (3, 'Crab Nebula', 'nebula', 'Taurus', 8.4),
    (4, 'Pleiades', 'star cluster', 'Taurus', 1.6),
    (5, 'Mira', 'star', 'Cetus', 6.5),
    (6, 'Whirlpool Galaxy', 'galaxy', 'Canes Venatici', 8.3),
    (7, 'Ring Nebula', 'nebula', 'Lyra', 8.8),
    (8, 'Vega', 'star', 'Lyra', 0.0),
    (9, 'Beehive Cluster', 'star cluster', 'Cancer', 3.7),
    (10, 'Sombrero Galaxy', 'galaxy', 'Virgo', 8.0),
    (11, 'Betelgeuse', 'star', 'Orion', 0.5),
    (12, 'Hercules Cluster', 'star cluster', 'Hercules', 5.8);

INSERT INTO observations VALUES
    (1, 6, 1, 1, '2023-10-02', 120, 'excellent'),
    (2, 3, 4, 6, '2023-10-02', 180, 'excellent'),
    (3, 4, 2, 5, '2023-10-05', 30, 'good'),
    (4, 1, 5, 4, '2023-10-11', 25, 'fair'),
    (5, 6, 3, 3, '2023-10-14', 150, 'good'),
    (6, 5, 8, 2, '2023-11-03', 60, 'good'),
    (7, 4, 6, 5, '2023-11-04', 35, 'poor'),
    (8, 3, 1, 10, '2023-11-09', 200, 'good'),
    (9, 7, 7, 8, '2023-11-15', 15, 'fair'),
    (10, 6, 4, 1, '2023-11-20', 140, 'excellent'),
    (11, 5, 3, 7, '2023-12-01', 75, 'fair'),
    (12, 4, 2, 11, '2023-12-06', 20, 'good'),
    (13, 1, 5, 9, '2023-12-10', 40, 'poor'),
    (14, 3, 8, 2, '2023-12-12', 95, 'excellent'),
    (15, 6, 1, 6, '2024-01-08', 210, 'good'),
    (16, 7, 2, 8, '2024-01-13', 10, 'fair'),
    (17, 5, 5, 4, '2024-01-19', 45, 'good'),
    (18, 3, 3, 3, '2024-01-22', 160, 'fair'),
    (19, 4, 6, 11, '2024-02-02', 22, 'good');
