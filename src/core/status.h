// Status and Expected (public), and the macros that the engine uses with them.
#pragma once

#include <cstdio>
#include <cstdlib>

#include "liveavatar/status.h"

// Only for programmer errors: a broken contract inside the engine. Active in every build.
#define LA_CHECK(condition)                                                                 \
  do {                                                                                      \
    if (!(condition)) {                                                                     \
      std::fprintf(stderr, "%s:%d: broken contract: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                         \
    }                                                                                       \
  } while (0)

// return_if_error(status);  assign_or_return(auto x, expected_expression);
#define LA_RETURN_IF_ERROR(expression)                                       \
  do {                                                                       \
    if (auto la_status_ = (expression); !la_status_.ok()) return la_status_; \
  } while (0)
#define LA_CONCAT_(a, b) a##b
#define LA_CONCAT(a, b) LA_CONCAT_(a, b)
#define LA_ASSIGN_OR_RETURN(declaration, expression) \
  LA_ASSIGN_OR_RETURN_(LA_CONCAT(la_expected_, __LINE__), declaration, expression)
#define LA_ASSIGN_OR_RETURN_(temporary, declaration, expression) \
  auto temporary = (expression);                                 \
  if (!temporary.ok()) return temporary.status();                \
  declaration = *std::move(temporary)
