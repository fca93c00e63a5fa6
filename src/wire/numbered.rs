//! One list for each set of numbers on the wire: the enum, its number, its name and `ALL` cannot drift apart.

/// Defines a closed enum of wire numbers with `ALL`, `number`, `name`, `from_number` and `Display`.
macro_rules! numbered {
    (
        $(#[$meta:meta])*
        pub enum $name:ident: $repr:ty {
            $($(#[doc = $doc:literal])+ $item:ident = $number:literal $text:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr($repr)]
        pub enum $name {
            $($(#[doc = $doc])+ $item = $number,)+
        }

        impl $name {
            /// Every item, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$item,)+];

            /// The number that stands on the wire.
            #[must_use]
            pub const fn number(self) -> $repr {
                self as $repr
            }

            /// The name that the specification uses.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$item => $text,)+
                }
            }

            /// What it means, in a sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$item => concat!($($doc,)+).trim_ascii(),)+
                }
            }

            /// The item with this number, if this version of the wire has one.
            #[must_use]
            pub const fn from_number(number: $repr) -> Option<Self> {
                match number {
                    $($number => Some(Self::$item),)+
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

pub(super) use numbered;
