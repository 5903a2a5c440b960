"""Problems whose moments under SGD, SVAG and the SDE are known exactly."""
