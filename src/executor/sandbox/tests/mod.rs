//! Real sandboxes in processes of their own.
