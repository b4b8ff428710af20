//! A node that renders: devices, leases, render loop, upload, outbox.
