"""What every package stands on: names, errors, files, locks, random numbers, the device. Imports none of the others."""
