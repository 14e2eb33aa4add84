"""What tests of several folders share: processes, waiting, and looking into the database."""
