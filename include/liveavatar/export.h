/* What a library shows to those who link it; all else in it is hidden. For C and C++. */
#ifndef LIVEAVATAR_EXPORT_H_
#define LIVEAVATAR_EXPORT_H_

#if defined(__GNUC__)
#define LIVEAVATAR_EXPORT __attribute__((visibility("default")))
#else
#define LIVEAVATAR_EXPORT
#endif

#endif
