#pragma once

/// Marks what libdalle.so exports; everything else in it is hidden.
#define DALLE_API __attribute__((visibility("default")))
