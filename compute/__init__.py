"""Arrays in, arrays out: the numbers of storewatch. No I/O; imports nothing of `service`."""
