//! The version of the formats that a trainer speaks.

/// The version of plan and trace. Raised when a field changes its meaning or a new event appears.
pub const SCHEMA: u32 = 1;
