"""RollingQ inside other libraries' training loops; import the file of the library that you use."""
