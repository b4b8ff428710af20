//! Admission, planning, placement, leases, completion, replay.
