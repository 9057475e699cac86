"""The command line: one file per group of commands, each a thin call to the stage it names."""
