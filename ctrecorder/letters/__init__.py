"""Letters of strangers (mail, XML, JSON, CSV, lists) read into sightings: who was seen when.

A field that was not read is absent; each that was read has its place in the letter.
"""

# What other packages may use: module.name.
SHOWN = (
    "read.read_path",
    "sighting.Letter",
    "sighting.Role",
    "sighting.Sighting",
)
