"""What metering costs, measured: `make bench`."""
