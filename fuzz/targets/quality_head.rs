//! Heads that estimate the quality of masks.
#![no_main]

use samara_fuzz::told;
use samara_quality::QualityHead;

samara_fuzz::target!(|bytes| {
    told(QualityHead::from_bytes(bytes));
});
