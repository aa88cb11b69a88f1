"""The learning rules, one to a file; the file's name is the job's `learning.rule`."""
