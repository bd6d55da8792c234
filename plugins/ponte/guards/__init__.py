"""What a scored batch must look like before people see it."""
