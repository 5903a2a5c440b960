"""Problems whose SVAG and SDE moments are known exactly."""
