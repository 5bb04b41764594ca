"""Time of single operations, compared with other libraries."""
