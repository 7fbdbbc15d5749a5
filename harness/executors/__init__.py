"""Who carries the runs of a suite out: processes of this machine, or Ray. What crosses to them is a spec."""
