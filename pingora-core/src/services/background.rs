//! Services that listen nowhere.
