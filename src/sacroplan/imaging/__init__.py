"""What an image can be trusted for: quality checks, calibration, fusion, simulation."""
