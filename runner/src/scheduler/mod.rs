//! Turns due occurrences into commits. Leadership is only for efficiency.
