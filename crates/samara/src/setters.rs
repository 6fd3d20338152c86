//! Builder methods of options.

/// Methods that set one field each.
macro_rules! setters {
    ($($(#[$doc:meta])* $method:ident($value:ident: $type:ty) => $field:ident = $set:expr;)*) => {
        $(
            $(#[$doc])*
            pub fn $method(mut self, $value: $type) -> Self {
                self.$field = $set;
                self
            }
        )*
    };
}

pub(crate) use setters;
