/* SPDX-License-Identifier: MIT */
/* Version of the headers; sr_version() tells the version of the library that was loaded. */
#ifndef SAFERING_VERSION_H
#define SAFERING_VERSION_H

#include <safering/export.h>
#include <stdint.h>

SR_EXTERN_C_BEGIN

#define SR_VERSION_MAJOR  0
#define SR_VERSION_MINOR  1
#define SR_VERSION_PATCH  0
#define SR_VERSION_STRING "0.1.0"

/** sr_version() - version of the loaded library as 0x00MMmmpp (major, minor, patch). */
SR_API uint32_t sr_version(void);

SR_EXTERN_C_END

#endif
