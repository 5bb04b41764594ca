"""Time of single operations, beside what other libraries take."""
