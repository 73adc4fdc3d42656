/* SPDX-License-Identifier: MIT */
/* Symbol visibility and call attributes. Nothing here is API of its own. */
#ifndef SAFERING_EXPORT_H
#define SAFERING_EXPORT_H

#if defined(SAFERING_BUILD)
#define SR_API __attribute__((visibility("default")))
#else
#define SR_API
#endif

#define SR_MUST_USE __attribute__((warn_unused_result))

#ifdef __cplusplus
#define SR_EXTERN_C_BEGIN extern "C" {
#define SR_EXTERN_C_END   }
#define SR_LITERAL(type)  type
#else
#define SR_EXTERN_C_BEGIN
#define SR_EXTERN_C_END
#define SR_LITERAL(type) (type)
#endif

#endif
