//! Lines under a cap.
