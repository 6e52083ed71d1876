//! classify/catalogue
